package bench

import (
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
)

// The plots are written here and not by a library: those that were looked at draw for print, on white, and know no dark page.
// A plot stands on a card of its own, so that it can be read wherever it is shown, and follows the reader's choice of light or dark.

const (
	plotWidth = 860
	margin    = 28
)

// style holds every colour. Blue against orange is told apart by all common kinds of colour blindness; what matters is also said in text.
const style = `
.card{fill:#fff;stroke:#d0d7de}
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#1f2328}
.title{font-size:19px;font-weight:650}.sub{font-size:13px;fill:#59636e}.name{font-size:14px;font-weight:600}.what{font-size:12px;fill:#59636e}
.value{font-size:15px;font-weight:650}.small{font-size:12px;fill:#59636e}
.value,.small{paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}.head{font-size:14px;font-weight:600}
.in{font-size:12px;font-weight:600;fill:#fff}
.grid{stroke:#d8dee4;stroke-width:1}.mark{stroke:#1f2328;stroke-width:1.5}.yard{stroke:#59636e;stroke-width:1.5;stroke-dasharray:5 4}
.w0{fill:#0969da}.w1{fill:#54aeff}.d0{fill:#bc4c00}.d1{fill:#e0872f}.d2{fill:#c69026}.y0{fill:#8c959f}
.w0s{stroke:#0969da}.w1s{stroke:#54aeff}.d0s{stroke:#bc4c00}.d1s{stroke:#e0872f}.d2s{stroke:#c69026}.y0s{stroke:#8c959f}
.h0{fill:#8c959f}.h1{fill:#0969da}.h2{fill:#1a7f37}.h3{fill:#8250df}
.faint{opacity:.32}.curve{fill:none;stroke-width:1.5;stroke-linejoin:round}
@media (prefers-color-scheme:dark){
.card{fill:#0d1117;stroke:#3d444d}text{fill:#f0f6fc}.sub,.what,.small{fill:#9198a1}.in{fill:#fff}
.value,.small{stroke:#0d1117}
.grid{stroke:#2a313c}.mark{stroke:#f0f6fc}.yard{stroke:#9198a1}
.w0{fill:#4493f8}.w1{fill:#a5d6ff}.d0{fill:#f0883e}.d1{fill:#ffc680}.d2{fill:#d4a72c}.y0{fill:#6e7681}
.w0s{stroke:#4493f8}.w1s{stroke:#a5d6ff}.d0s{stroke:#f0883e}.d1s{stroke:#ffc680}.d2s{stroke:#d4a72c}.y0s{stroke:#6e7681}
.h0{fill:#6e7681}.h1{fill:#1f6feb}.h2{fill:#238636}.h3{fill:#8957e5}
}
`

// drawing is an SVG in the making.
type drawing struct {
	body   strings.Builder
	title  string
	height float64
}

// draw begins a plot: the title says what is to be seen, the subtitle how it was measured. It returns where the rest may begin.
func draw(title, subtitle string) (d *drawing, y float64) {
	d = &drawing{title: title}
	y = margin + 16
	for _, line := range wrap(unbroken(title), plotWidth-2*margin, 19*0.63) {
		d.text(margin, y, "title", "", line)
		y += 26
	}
	for _, line := range wrap(subtitle, plotWidth-2*margin, 13*0.56) {
		d.text(margin, y, "sub", "", line)
		y += 18
	}
	return d, y + 14
}

// finish ends the plot below y.
func (d *drawing) finish(y float64) []byte {
	d.height = y + margin - 8
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %s" width="%d" height="%s" role="img" aria-labelledby="t">`+"\n",
		plotWidth, num(d.height), plotWidth, num(d.height))
	fmt.Fprintf(&b, "<title id=\"t\">%s</title>\n<style>%s</style>\n", escaped(d.title), style)
	fmt.Fprintf(&b, `<rect class="card" x="0.5" y="0.5" width="%d" height="%s" rx="12"/>`+"\n", plotWidth-1, num(d.height-1))
	b.WriteString(d.body.String())
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// text draws a line of text whose base line is y; anchor is "", "middle" or "end".
func (d *drawing) text(x, y float64, class, anchor, text string) {
	if anchor != "" {
		anchor = ` text-anchor="` + anchor + `"`
	}
	fmt.Fprintf(&d.body, `<text class="%s" x="%s" y="%s"%s>%s</text>`+"\n", class, num(x), num(y), anchor, escaped(text))
}

func (d *drawing) rect(x, y, width, height, radius float64, class string) {
	fmt.Fprintf(&d.body, `<rect class="%s" x="%s" y="%s" width="%s" height="%s" rx="%s"/>`+"\n", class, num(x), num(y), num(max(width, 0.5)), num(height), num(radius))
}

func (d *drawing) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&d.body, `<path class="%s" d="M%s %sL%s %s"/>`+"\n", class, num(x1), num(y1), num(x2), num(y2))
}

type point struct{ x, y float64 }

// curve draws a line through the points.
func (d *drawing) curve(points []point, class string) {
	var b strings.Builder
	for i, p := range points {
		b.WriteString([]string{"M", "L"}[min(i, 1)] + num(p.x) + " " + num(p.y))
	}
	fmt.Fprintf(&d.body, `<path class="%s" d="%s"/>`+"\n", class, b.String())
}

func (d *drawing) dot(x, y, radius float64, class string) {
	fmt.Fprintf(&d.body, `<circle class="%s" cx="%s" cy="%s" r="%s"/>`+"\n", class, num(x), num(y), num(radius))
}

// num writes a coordinate with a tenth of a pixel.
func num(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder takes everything
	return b.String()
}

// width is about how wide a text is; SVG has no way to ask.
func width(text string, perLetter float64) float64 { return float64(len([]rune(text))) * perLetter }

// unbroken keeps a number and its unit on one line.
func unbroken(text string) string {
	return strings.NewReplacer(" ms", "\u00a0ms", " µs", "\u00a0µs", " MiB", "\u00a0MiB", " events", "\u00a0events").Replace(text)
}

func wrap(text string, limit, perLetter float64) []string {
	var lines []string
	line := ""
	for word := range strings.SplitSeq(text, " ") {
		if line != "" && width(line+" "+word, perLetter) > limit {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}

// colour is the class of a contestant, the same in every plot.
func colour(c Contestant) string {
	switch {
	case c.Name == exactlyOnce:
		return "w0"
	case c.ours():
		return "w1"
	case c.Name == Debezium:
		return "d0"
	case c.Name == DebeziumTuned:
		return "d1"
	case c.Name == DebeziumApplied:
		return "d2"
	default:
		return "y0"
	}
}
