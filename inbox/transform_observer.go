package inbox

import "time"

// Transaction is what one transaction of a Transformer did.
type Transaction struct {
	In   int           // messages read
	Out  int           // records published, dead letters not counted
	Dead int           // dead letters
	Took time.Duration // from the poll's return to the end of the transaction
	Err  error         // why it was aborted or could not be begun, or why its outcome is not known; nil when it was committed
}

// TransactionObserver is told about each transaction, and about each batch that failed before it had one. It is called by the transformer's
// one goroutine and must be quick.
type TransactionObserver interface {
	TransactionEnded(tx Transaction)
}

// transformObservers are the abilities that a Transformer's Observer turned out to have; the others are nil.
type transformObservers struct {
	transaction TransactionObserver
	lag         LagObserver
	group       GroupObserver
}

func newTransformObservers(v any) (o transformObservers) {
	o.transaction, _ = v.(TransactionObserver)
	o.lag, _ = v.(LagObserver)
	o.group, _ = v.(GroupObserver)
	return o
}

func (o transformObservers) any() bool { return o != transformObservers{} }

func (o transformObservers) ended(tx Transaction) {
	if o.transaction != nil {
		o.transaction.TransactionEnded(tx)
	}
}
