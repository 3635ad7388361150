//go:build !race

package httpregistry

const raceDetector = false
