package attempt

import "time"

var epoch = time.Now()

// Now is the time on this package's clock. To read it costs half of what time.Now
// does, which reads the wall clock as well.
func Now() time.Duration { return time.Since(epoch) }
