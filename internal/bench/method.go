package bench

import (
	"fmt"
	"strings"
	"time"
)

// method writes how it was measured, on what, and how to do it again.
func (p *page) method(f found) {
	p.add("## How it was measured\n")
	if f.relay != nil {
		p.relayMethod(*f.relay)
	}
	if f.soak != nil {
		p.soakMethod(*f.soak)
	}
	if f.path != nil {
		p.pathMethod(*f.path)
	}
	p.add("What these figures do not say: how a cluster of several machines behaves, where the network and the replication of Kafka weigh more than either relay; " +
		"what tables with large or wide rows do; and how fast your machine is. Absolute figures vary by a factor of two between machines and between days: " +
		"compare within one run.\n")
	p.machine(f)
	p.contestants(f)
	p.again(f)
}

func (p *page) relayMethod(r RelayResults) {
	p.add(`- **Every event is accounted for by its id**, in every measurement: a run in which one is lost, foreign or out of its key's order is not reported but fails.
- **The same work for all**: one table, one publication, one log. Each has a slot and a topic of its own with the same %d partitions, and one consumer,
  in the measuring process, reads what is committed (read_committed) with fetches of up to %d MiB.
- **Taking turns**: %d rounds in rotating order, after a first one of each kind that is not counted, in which Java compiles what is hot. Figures are medians over the rounds.%s
- **Drain**: %s one-row transactions, payloads of %d bytes of which half does not compress, are written once; each drain reads them from its own copy of one
  slot. Timed from the consumer's first fetch to the last event, without the events of that fetch, and so without the start, which has its own column.
- **Reading alone**: the same backlog, each from a copy of the slot, timed from the start of the reader's process to its end. pg_recvlogical writes to /dev/null and
  decodes nothing; walpost makes a record of each event, throws it away and confirms it.
- **Latency**: %d connections write at a steady rate, one event a transaction, waiting for the disk; %v at each rate are warm-up, then %g s are measured. The clock
  runs from the commit's return in the writer to the consumer that has the record. An event that comes before its writer has its answer counts as 0.
%s%s- **Processor time and memory** are those of the processes as the system counts them (/proc), memory looked at every %d ms. Each Debezium runs on a worker of
  its own, whose heap's limit is named below; a Java process keeps the memory that it once took.
- **Debezium gets what it needs to be fast**: the settings of package debezium make it publish the same bytes and lose nothing; the one that costs speed, a limit
  of the queue in bytes, is off as it is by default. Kafka and the workers run with Java's own compiler and collector, not with the small ones of `+"`stack up`"+`.
`, partitions, fetchBytes>>20, r.Repeats, absent(r), count(r.Rows), payloadBytes, writers, warmup, r.Seconds, tailMethod(r.About.Disks), aloneMethod(r)+hugeMethod(r), samplePeriod.Milliseconds())
}

// absent names who was measured in fewer rounds than the others.
func absent(r RelayResults) string {
	rounds := make(map[string]int)
	for _, d := range r.Drains {
		rounds[d.Contestant]++
	}
	var text strings.Builder
	for _, c := range ordered(r.Contestants) {
		if n := rounds[c.Name]; n > 0 && n < r.Repeats {
			fmt.Fprintf(&text, " %s was measured in %d of them, to save time.", c.Label, n)
		}
	}
	return text.String()
}

func tailMethod(d Disks) string {
	writes, apart := "all servers write to one disk", ""
	if d.Postgres != d.Kafka {
		writes = "PostgreSQL waits for its disk"
		apart = fmt.Sprintf(`- **Disks**: PostgreSQL's data is on one (%s) and Kafka's on another (%s), as they share none in production. Kafka waits for
  its disk nowhere, but on the same file system its writes wait for PostgreSQL's flushes, whoever the contestant is.
`, d.Postgres, d.Kafka)
	}
	return fmt.Sprintf(`%s- **The tail** has a share that is no relay's: %s, the broker's collector stops it for some 20 ms now and then, and a
  host takes its processors away (below: stolen).
`, apart, writes)
}

func aloneMethod(r RelayResults) string {
	if len(r.Alone) == 0 {
		return ""
	}
	warm := ""
	if r.AloneWarm > 0 {
		warm = fmt.Sprintf("; after %g s of warm-up", r.AloneWarm)
	}
	return fmt.Sprintf(`- **One event alone**: one is written when the one before has arrived and a random pause of %d to %d ms is over%s, for %v at most in each
  round, whence the different numbers of events. Who polls has just begun to wait when it is written, and sends it nearly a whole interval later.
`, alonePause.Milliseconds(), alonePauses.Milliseconds(), warm, aloneLimit)
}

func hugeMethod(r RelayResults) string {
	if len(r.Huge) == 0 {
		return ""
	}
	return fmt.Sprintf(`- **One transaction** of %s rows of the same kind is written once, and carried once by each from a copy of its slot, timed as a drain is.
`, count(r.HugeRows))
}

func (p *page) pathMethod(r PathResults) {
	p.add(`- **The whole way**: `+"`api-server`, the relay and `kafka-consumer`"+` as processes of their own. %d clients register, each again as soon as it has its answer,
  for %g s after a warm-up of %v, %d times in turn. The commits' times are PostgreSQL's own (track_commit_timestamp), the others are those of the consumer and the
  mail server in the measuring process, all by one clock.
`, r.Clients, r.Seconds, warmup, r.Repeats)
}

func (p *page) soakMethod(r SoakResults) {
	p.add(`- **Steady load**: %d connections write %s events a second for %s, after %v of warm-up. %d times a second the relay's memory, the end of the log and the
  position to which the slot is confirmed are looked at; what is confirmed too late by less than the time between two looks may be told as one whole such time.
`, writers, count(r.Rate), span(r.Seconds), warmup, time.Second/samplePeriod)
}

func (p *page) machine(f found) {
	runs := f.runs()
	m := runs[0].Machine
	p.add("## Machine and settings\n")
	table := [][]string{
		{"", ""},
		{"processors", fmt.Sprintf("%d × %s", m.Cores, m.CPU)},
		{"memory", fmt.Sprintf("%g GiB", m.MemoryGiB)},
		{"system", fmt.Sprintf("%s, kernel %s", m.System, m.Kernel)},
		{"walpost", fmt.Sprintf("%s, %s", m.Walpost, m.Go)},
		{"PostgreSQL", m.PostgreSQL},
		{"Kafka, Kafka Connect", fmt.Sprintf("%s, Java %s", m.Kafka, m.Java)},
		{"Debezium", m.Debezium},
	}
	for _, run := range runs {
		about := run.About
		table = append(table, []string{"bench " + run.what, fmt.Sprintf("%s, %.0f minutes; before the start other load took %.0f %% of the machine",
			about.Began.Format("2006-01-02 15:04 MST"), about.Minutes, 100*about.Busy)})
	}
	if f.relay != nil {
		for _, disturbance := range [][2]string{{"other load in bench relay", ProcessOther}, {"stolen by the host meanwhile", ProcessStolen}} {
			share := f.relay.shares(disturbance[1])
			table = append(table, []string{disturbance[0], fmt.Sprintf("%.0f %% of a core (median; highest %.0f %%)", 100*share.Median, 100*share.Max)})
		}
	}
	for _, run := range runs {
		if run.Disks != (Disks{}) {
			table = append(table, []string{"disks in bench " + run.what, fmt.Sprintf("PostgreSQL: %s; Kafka: %s", run.Disks.Postgres, run.Disks.Kafka)})
		}
	}
	p.table(table)
	p.terms(runs[0].Settings)
	p.add("")
}

func (p *page) contestants(f found) {
	for _, c := range f.contestants() {
		p.add("<details><summary>%s: %s</summary>\n", c.Label, c.What)
		if len(c.Settings) > 0 {
			p.add("```properties")
			for _, name := range sortedKeys(c.Settings) {
				p.add("%s=%s", name, c.Settings[name])
			}
			p.add("```")
		}
		p.add("\n</details>\n")
	}
}

func (p *page) again(f found) {
	p.add("## Again\n\nJava 17, Maven and PostgreSQL 15 or newer are needed, no Docker, and a machine that does nothing else.\n\n```sh")
	for _, run := range f.runs() {
		p.add("%s", run.Command)
	}
	p.add("```\n\nEvery single measurement is in [performance/](performance).")
}
