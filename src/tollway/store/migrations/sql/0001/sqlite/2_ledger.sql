-- The four counter accounts. They are unbounded, so their counters stay at zero and their sums
-- are taken from the entries; no row is written by every call.
INSERT INTO ledger_account (id, kind, owner, bounded)
VALUES (1, 'world', 'gateway', 0), (2, 'revenue', 'gateway', 0), (3, 'absorbed', 'gateway', 0), (4, 'promo', 'gateway', 0);

-- -- accounts ---------------------------------------------------------------------------------
CREATE TRIGGER ledger_account_begins BEFORE INSERT ON ledger_account
WHEN NEW.credited <> 0 OR NEW.debited <> 0 OR NEW.held <> 0
BEGIN
  SELECT RAISE(ABORT, 'illegal: a ledger account begins empty');
END;

CREATE TRIGGER ledger_account_fixed BEFORE UPDATE OF id, kind, owner, period, bounded ON ledger_account
WHEN NEW.id <> OLD.id OR NEW.kind <> OLD.kind OR NEW.owner <> OLD.owner OR NEW.period <> OLD.period OR NEW.bounded <> OLD.bounded
BEGIN
  SELECT RAISE(ABORT, 'illegal: a ledger account keeps its identity');
END;

CREATE TRIGGER ledger_account_grows BEFORE UPDATE OF credited, debited ON ledger_account
WHEN NEW.credited < OLD.credited OR NEW.debited < OLD.debited
BEGIN
  SELECT RAISE(ABORT, 'illegal: counters do not decrease');
END;

CREATE TRIGGER ledger_account_stays BEFORE DELETE ON ledger_account
BEGIN
  SELECT RAISE(ABORT, 'illegal: a ledger account is not deleted');
END;

-- -- holds ------------------------------------------------------------------------------------
-- One trigger per event: SQLite pays for each it enters, also for one whose condition is false.
CREATE TRIGGER hold_added AFTER INSERT ON hold
BEGIN
  SELECT RAISE(ABORT, 'illegal: a hold begins as held') WHERE NEW.state <> 'held' OR NEW.refunded <> 0;
  SELECT RAISE(ABORT, 'illegal: only an open hold of the same wallet and budget is extended')
  WHERE NEW.extends IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM hold
    WHERE id = NEW.extends AND state = 'held' AND extends IS NULL AND wallet = NEW.wallet AND budget IS NEW.budget
  );
  UPDATE ledger_account SET held = held + NEW.amount WHERE id = NEW.wallet AND kind = 'wallet';
  SELECT RAISE(ABORT, 'illegal: a hold is on a wallet') WHERE changes() <> 1;
  UPDATE ledger_account SET held = held + NEW.amount WHERE id = NEW.budget AND kind = 'budget';
  SELECT RAISE(ABORT, 'illegal: a hold counts against a budget') WHERE NEW.budget IS NOT NULL AND changes() <> 1;
END;

CREATE TRIGGER hold_fixed BEFORE UPDATE OF id, wallet, budget, amount, extends, price_version, owner, created_at, refunded ON hold
WHEN NEW.id <> OLD.id OR NEW.wallet <> OLD.wallet OR NEW.budget IS NOT OLD.budget OR NEW.amount <> OLD.amount
  OR NEW.extends IS NOT OLD.extends OR NEW.price_version <> OLD.price_version OR NEW.owner <> OLD.owner
  OR NEW.created_at <> OLD.created_at OR NEW.refunded < OLD.refunded
BEGIN
  SELECT RAISE(ABORT, 'illegal: a hold keeps its terms');
END;

-- Closing a hold moves the counters for its two entries itself, so that each account is written once.
CREATE TRIGGER hold_closes AFTER UPDATE OF state, settled, reason, closed_at, expires_at ON hold
BEGIN
  SELECT RAISE(ABORT, 'illegal: a hold closes once') WHERE OLD.state <> 'held';
  UPDATE ledger_account SET held = held - OLD.amount, debited = debited + COALESCE(NEW.settled, 0)
  WHERE id = OLD.wallet AND NEW.state <> 'held';
  UPDATE ledger_account SET held = held - OLD.amount, debited = debited + COALESCE(NEW.settled, 0)
  WHERE id = OLD.budget AND NEW.state <> 'held';
  INSERT INTO entry (id, debit, credit, amount, kind, hold_id, at)
  SELECT 's:' || NEW.id, NEW.wallet, 2, NEW.settled, 'settle', NEW.id, NEW.closed_at WHERE NEW.settled > 0;
  INSERT INTO entry (id, debit, credit, amount, kind, hold_id, at)
  SELECT 'b:' || NEW.id, NEW.budget, 1, NEW.settled, 'budget', NEW.id, NEW.closed_at
  WHERE NEW.settled > 0 AND NEW.budget IS NOT NULL;
END;

CREATE TRIGGER hold_stays BEFORE DELETE ON hold
BEGIN
  SELECT RAISE(ABORT, 'illegal: a hold is not deleted');
END;

-- -- entries ----------------------------------------------------------------------------------
-- The entries that closing a hold writes are let through at once: their counters have been moved.
-- They cannot be forged, because they need a settled hold, and that has them already.
CREATE TRIGGER entry_added AFTER INSERT ON entry
WHEN NOT EXISTS (
  SELECT 1 FROM hold h WHERE h.id = NEW.hold_id AND h.state = 'settled' AND h.settled = NEW.amount AND (
    NEW.id = 's:' || h.id AND NEW.kind = 'settle' AND NEW.debit = h.wallet AND NEW.credit = 2
    OR NEW.id = 'b:' || h.id AND NEW.kind = 'budget' AND NEW.debit = h.budget AND NEW.credit = 1))
BEGIN
  SELECT RAISE(ABORT, 'illegal: this entry belongs to a settled hold and follows its terms')
  WHERE NEW.kind IN ('settle', 'budget', 'overage', 'refund') AND NOT EXISTS (
    SELECT 1 FROM hold h WHERE h.id = NEW.hold_id AND h.state = 'settled' AND CASE NEW.kind
      WHEN 'budget' THEN NEW.id = 'ob:' || h.id AND NEW.debit = h.budget AND NEW.credit = 1
      WHEN 'overage' THEN NEW.id = 'o:' || h.id AND NEW.debit = h.wallet AND NEW.credit = 2
      WHEN 'refund' THEN NEW.debit = 2 AND NEW.credit = h.wallet
    END
  );
  SELECT RAISE(ABORT, 'illegal: this kind of entry does not join these accounts')
  WHERE NEW.kind IN ('grant', 'topup', 'adjust', 'expire') AND NOT EXISTS (
    SELECT 1 FROM ledger_account w
    WHERE w.kind = 'wallet'
      AND w.id = CASE WHEN NEW.kind IN ('grant', 'topup') OR NEW.kind = 'adjust' AND NEW.debit = 1 THEN NEW.credit ELSE NEW.debit END
      AND CASE NEW.kind
        WHEN 'grant' THEN NEW.debit = 4
        WHEN 'topup' THEN NEW.debit = 1
        WHEN 'expire' THEN NEW.credit = 4
        ELSE 1 IN (NEW.debit, NEW.credit)
      END
  );
  SELECT RAISE(ABORT, 'illegal: what is absorbed goes from absorbed to revenue')
  WHERE NEW.kind = 'absorb' AND (NEW.id IS NOT 'a:' || NEW.hold_id OR NEW.debit <> 3 OR NEW.credit <> 2);
  UPDATE ledger_account SET debited = debited + NEW.amount WHERE id = NEW.debit AND bounded = 1;
  UPDATE ledger_account SET credited = credited + NEW.amount WHERE id = NEW.credit AND bounded = 1;
  UPDATE hold SET refunded = refunded + NEW.amount WHERE id = NEW.hold_id AND NEW.kind = 'refund';
END;

CREATE TRIGGER entry_fixed BEFORE UPDATE ON entry
BEGIN
  SELECT RAISE(ABORT, 'illegal: an entry is not changed');
END;

CREATE TRIGGER entry_stays BEFORE DELETE ON entry
BEGIN
  SELECT RAISE(ABORT, 'illegal: an entry is not deleted');
END;

-- -- other records that only grow ---------------------------------------------------------------
CREATE TRIGGER price_version_fixed BEFORE UPDATE ON price_version
BEGIN
  SELECT RAISE(ABORT, 'illegal: a price version is not changed');
END;

CREATE TRIGGER price_version_stays BEFORE DELETE ON price_version
BEGIN
  SELECT RAISE(ABORT, 'illegal: a price version is not deleted');
END;

CREATE TRIGGER audit_fixed BEFORE UPDATE ON audit
BEGIN
  SELECT RAISE(ABORT, 'illegal: an audit row is not changed');
END;

CREATE TRIGGER audit_stays BEFORE DELETE ON audit
BEGIN
  SELECT RAISE(ABORT, 'illegal: an audit row is not deleted');
END;
