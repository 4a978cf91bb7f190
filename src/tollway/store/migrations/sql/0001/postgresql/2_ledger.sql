-- The four counter accounts. They are unbounded, so their counters stay at zero and their sums
-- are taken from the entries; no row is written by every call.
INSERT INTO ledger_account (id, kind, owner, bounded)
VALUES (1, 'world', 'gateway', 0), (2, 'revenue', 'gateway', 0), (3, 'absorbed', 'gateway', 0), (4, 'promo', 'gateway', 0);

SELECT setval('ledger_account_id_seq', 4);

-- A refusal is a check_violation, so that clients see one class of error for all that is illegal.
CREATE FUNCTION tollway_illegal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'illegal: %', TG_ARGV[0] USING ERRCODE = 'check_violation';
END $$;

-- -- accounts ---------------------------------------------------------------------------------
CREATE TRIGGER ledger_account_begins BEFORE INSERT ON ledger_account FOR EACH ROW
WHEN (NEW.credited <> 0 OR NEW.debited <> 0 OR NEW.held <> 0)
EXECUTE FUNCTION tollway_illegal('a ledger account begins empty');

CREATE TRIGGER ledger_account_fixed BEFORE UPDATE ON ledger_account FOR EACH ROW
WHEN (NEW.id <> OLD.id OR NEW.kind <> OLD.kind OR NEW.owner <> OLD.owner OR NEW.period <> OLD.period OR NEW.bounded <> OLD.bounded)
EXECUTE FUNCTION tollway_illegal('a ledger account keeps its identity');

CREATE TRIGGER ledger_account_grows BEFORE UPDATE ON ledger_account FOR EACH ROW
WHEN (NEW.credited < OLD.credited OR NEW.debited < OLD.debited)
EXECUTE FUNCTION tollway_illegal('counters do not decrease');

-- Counters follow holds and entries: only the triggers below may move them.
CREATE TRIGGER ledger_account_follows BEFORE UPDATE ON ledger_account FOR EACH ROW
WHEN (pg_trigger_depth() = 0
  AND (NEW.credited <> OLD.credited OR NEW.debited <> OLD.debited OR NEW.held <> OLD.held))
EXECUTE FUNCTION tollway_illegal('counters follow holds and entries');

CREATE TRIGGER ledger_account_stays BEFORE DELETE OR TRUNCATE ON ledger_account FOR EACH STATEMENT
EXECUTE FUNCTION tollway_illegal('a ledger account is not deleted');

-- -- holds ------------------------------------------------------------------------------------
-- The triggers that move counters see a whole statement at once: a batch touches each account
-- once, in the order of ids, so that two processes never wait for each other.
CREATE FUNCTION tollway_hold_added() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  rows bigint;
  odd boolean;
  stray boolean;
  accounts bigint[];
  moved bigint;
BEGIN
  SELECT count(*), bool_or(n.state <> 'held' OR n.refunded <> 0),
    bool_or(n.extends IS NOT NULL AND NOT EXISTS (
      SELECT 1 FROM hold h WHERE h.id = n.extends AND h.state = 'held' AND h.extends IS NULL
        AND h.wallet = n.wallet AND h.budget IS NOT DISTINCT FROM n.budget)),
    array_agg(DISTINCT n.wallet) || COALESCE(array_agg(DISTINCT n.budget) FILTER (WHERE n.budget IS NOT NULL), '{}')
  INTO rows, odd, stray, accounts FROM added n;
  IF rows = 0 THEN
    RETURN NULL;
  ELSIF odd THEN
    RAISE EXCEPTION 'illegal: a hold begins as held' USING ERRCODE = 'check_violation';
  ELSIF stray THEN
    RAISE EXCEPTION 'illegal: only an open hold of the same wallet and budget is extended' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM 1 FROM ledger_account WHERE id = ANY (accounts) ORDER BY id FOR NO KEY UPDATE;
  WITH sums AS (
    SELECT wallet AS id, 'wallet' AS kind, sum(amount)::bigint AS amount FROM added GROUP BY wallet
    UNION ALL
    SELECT budget, 'budget', sum(amount)::bigint FROM added WHERE budget IS NOT NULL GROUP BY budget
  ), done AS (
    UPDATE ledger_account a SET held = a.held + s.amount FROM sums s WHERE a.id = s.id AND a.kind = s.kind RETURNING a.id
  )
  SELECT count(*) INTO moved FROM done;
  IF cardinality(accounts) <> moved THEN
    RAISE EXCEPTION 'illegal: a hold is on a wallet and counts against a budget' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER hold_added AFTER INSERT ON hold REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION tollway_hold_added();

CREATE TRIGGER hold_fixed BEFORE UPDATE ON hold FOR EACH ROW
WHEN (NEW.id <> OLD.id OR NEW.wallet <> OLD.wallet OR NEW.budget IS DISTINCT FROM OLD.budget OR NEW.amount <> OLD.amount
  OR NEW.extends IS DISTINCT FROM OLD.extends OR NEW.price_version <> OLD.price_version OR NEW.owner <> OLD.owner
  OR NEW.created_at <> OLD.created_at OR NEW.refunded < OLD.refunded)
EXECUTE FUNCTION tollway_illegal('a hold keeps its terms');

CREATE TRIGGER hold_closed_once BEFORE UPDATE ON hold FOR EACH ROW
WHEN (OLD.state <> 'held' AND (
  NEW.state <> OLD.state OR NEW.settled IS DISTINCT FROM OLD.settled OR NEW.closed_at IS DISTINCT FROM OLD.closed_at
  OR NEW.reason IS DISTINCT FROM OLD.reason OR NEW.expires_at <> OLD.expires_at))
EXECUTE FUNCTION tollway_illegal('a hold closes once');

CREATE TRIGGER hold_refunded BEFORE UPDATE ON hold FOR EACH ROW
WHEN (pg_trigger_depth() = 0 AND NEW.refunded <> OLD.refunded)
EXECUTE FUNCTION tollway_illegal('refunds follow entries');

CREATE FUNCTION tollway_hold_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  accounts bigint[];
BEGIN
  SELECT array_agg(DISTINCT n.wallet) || COALESCE(array_agg(DISTINCT n.budget) FILTER (WHERE n.budget IS NOT NULL), '{}')
  INTO accounts FROM after n JOIN before o USING (id) WHERE o.state = 'held' AND n.state <> 'held';
  IF cardinality(accounts) = 0 THEN
    RETURN NULL;
  END IF;
  PERFORM 1 FROM ledger_account WHERE id = ANY (accounts) ORDER BY id FOR NO KEY UPDATE;
  WITH closed AS MATERIALIZED (
    SELECT n.wallet, n.budget, n.amount FROM after n JOIN before o USING (id) WHERE o.state = 'held' AND n.state <> 'held'
  ), sums AS (
    SELECT wallet AS id, sum(amount)::bigint AS amount FROM closed GROUP BY wallet
    UNION ALL
    SELECT budget, sum(amount)::bigint FROM closed WHERE budget IS NOT NULL GROUP BY budget
  )
  UPDATE ledger_account a SET held = a.held - s.amount FROM sums s WHERE a.id = s.id;
  INSERT INTO entry (id, debit, credit, amount, kind, hold_id, at)
  SELECT side.id, side.debit, side.credit, n.settled, side.kind, n.id, n.closed_at
  FROM after n JOIN before o USING (id) CROSS JOIN LATERAL (
    VALUES ('s:' || n.id, n.wallet, 2, 'settle'), ('b:' || n.id, n.budget, 1, 'budget')
  ) AS side (id, debit, credit, kind)
  WHERE o.state = 'held' AND n.settled > 0 AND side.debit IS NOT NULL;
  RETURN NULL;
END $$;

CREATE TRIGGER hold_changed AFTER UPDATE ON hold REFERENCING OLD TABLE AS before NEW TABLE AS after
FOR EACH STATEMENT EXECUTE FUNCTION tollway_hold_changed();

CREATE TRIGGER hold_stays BEFORE DELETE OR TRUNCATE ON hold FOR EACH STATEMENT
EXECUTE FUNCTION tollway_illegal('a hold is not deleted');

-- -- entries ----------------------------------------------------------------------------------
CREATE FUNCTION tollway_entry_added() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  wrong text;
  refunds boolean;
  accounts bigint[];
BEGIN
  SELECT bool_or(e.kind = 'refund'),
    COALESCE(array_agg(DISTINCT e.debit) FILTER (WHERE e.debit > 4), '{}')
      || COALESCE(array_agg(DISTINCT e.credit) FILTER (WHERE e.credit > 4), '{}'),
    max(CASE
      WHEN e.kind IN ('settle', 'budget', 'overage', 'refund') AND NOT EXISTS (
        SELECT 1 FROM hold h WHERE h.id = e.hold_id AND h.state = 'settled' AND CASE e.kind
          WHEN 'settle' THEN e.id = 's:' || h.id AND e.debit = h.wallet AND e.credit = 2 AND e.amount = h.settled
          WHEN 'budget' THEN e.debit = h.budget AND e.credit = 1
            AND (e.id = 'b:' || h.id AND e.amount = h.settled OR e.id = 'ob:' || h.id)
          WHEN 'overage' THEN e.id = 'o:' || h.id AND e.debit = h.wallet AND e.credit = 2
          WHEN 'refund' THEN e.debit = 2 AND e.credit = h.wallet
        END) THEN 'this entry belongs to a settled hold and follows its terms'
      WHEN e.kind IN ('grant', 'topup', 'adjust', 'expire') AND NOT EXISTS (
        SELECT 1 FROM ledger_account w
        WHERE w.kind = 'wallet'
          AND w.id = CASE WHEN e.kind IN ('grant', 'topup') OR e.kind = 'adjust' AND e.debit = 1 THEN e.credit ELSE e.debit END
          AND CASE e.kind
            WHEN 'grant' THEN e.debit = 4
            WHEN 'topup' THEN e.debit = 1
            WHEN 'expire' THEN e.credit = 4
            ELSE 1 IN (e.debit, e.credit)
          END) THEN 'this kind of entry does not join these accounts'
      WHEN e.kind = 'absorb' AND (e.id IS DISTINCT FROM 'a:' || e.hold_id OR e.debit <> 3 OR e.credit <> 2)
        THEN 'what is absorbed goes from absorbed to revenue'
    END)
  INTO refunds, accounts, wrong FROM added e;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'illegal: %', wrong USING ERRCODE = 'check_violation';
  ELSIF accounts = '{}' THEN
    RETURN NULL;
  END IF;
  PERFORM 1 FROM ledger_account WHERE id = ANY (accounts) ORDER BY id FOR NO KEY UPDATE;
  WITH sums AS (
    SELECT id, sum(debited)::bigint AS debited, sum(credited)::bigint AS credited FROM (
      SELECT debit AS id, amount AS debited, 0 AS credited FROM added WHERE debit > 4
      UNION ALL
      SELECT credit, 0, amount FROM added WHERE credit > 4
    ) sides GROUP BY id
  )
  UPDATE ledger_account a SET debited = a.debited + s.debited, credited = a.credited + s.credited
  FROM sums s WHERE a.id = s.id;
  IF refunds THEN
    UPDATE hold h SET refunded = h.refunded + s.amount
    FROM (SELECT hold_id, sum(amount)::bigint AS amount FROM added WHERE kind = 'refund' GROUP BY hold_id) s
    WHERE h.id = s.hold_id;
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER entry_added AFTER INSERT ON entry REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION tollway_entry_added();

CREATE TRIGGER entry_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON entry FOR EACH STATEMENT
EXECUTE FUNCTION tollway_illegal('an entry is neither changed nor deleted');

-- -- other records that only grow ---------------------------------------------------------------
CREATE TRIGGER price_version_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON price_version FOR EACH STATEMENT
EXECUTE FUNCTION tollway_illegal('a price version is neither changed nor deleted');

CREATE TRIGGER audit_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit FOR EACH STATEMENT
EXECUTE FUNCTION tollway_illegal('an audit row is neither changed nor deleted');
