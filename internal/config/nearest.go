package config

// Nearest returns the candidate that a mistyped word most likely meant, or "" when none is near: two letters wrong, or a third of a long
// word, and never all of a short one.
func Nearest(word string, candidates []string) string {
	best, bestDistance := "", min(max(2, len(word)/3)+1, len(word))
	for _, candidate := range candidates {
		if d := distance(word, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance counts the letters to insert, delete or replace (Levenshtein), one row of the table at a time.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
