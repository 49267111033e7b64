package child

// Beginning is exported to its test alone.
var Beginning = beginning
