//go:build race

package httpregistry

// raceDetector says whether the tests run with it.
const raceDetector = true
