package maven

// What the tests of this package need: files of their own instead of Kafka's, and the files in the form of sums.txt.
var (
	ResolveWith = resolve
	Walk        = walk
)
