-- Pages of a wallet's ledger by time or kind, and the balance at their beginning, are found without reading its entries.
DROP INDEX ix_entry_debit;

DROP INDEX ix_entry_credit;

CREATE INDEX ix_entry_debit ON entry (debit, seq, at, kind, amount);

CREATE INDEX ix_entry_credit ON entry (credit, seq, at, kind, amount) WHERE credit > 4;
