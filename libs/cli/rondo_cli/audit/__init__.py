"""The auditor: what was accepted, what the log holds and what came of it, compared by id.

facts    what one record says, as rows (pure)
ledger   the rows of a time range in a temporary SQLite file, so that memory stays small
checks   the comparison, as questions to the ledger (pure)
reading  the log, through kafka-python only, into a ledger
"""
