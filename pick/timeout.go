package pick

import "errors"

// ErrTimeout is the cause (context.Cause) with which a policy, and not the caller,
// ends an attempt that has taken too long. The balancer holds it against the
// instance, as it never does with a caller's own deadline.
var ErrTimeout = errors.New("the attempt's own timeout has passed")
