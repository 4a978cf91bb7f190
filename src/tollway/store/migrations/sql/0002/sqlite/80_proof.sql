-- What was proved, as one sum for each account, so that the next proof reads only what came after.
CREATE TABLE proof_sum (
  account INTEGER NOT NULL,
  credited INTEGER DEFAULT 0 NOT NULL,
  debited INTEGER DEFAULT 0 NOT NULL,
  CONSTRAINT pk_proof_sum PRIMARY KEY (account)
) STRICT;
