"""Internal periodic work that one process does for all: what there is, running it once, running it in time.

    work           what a job is given, and what it gives back
    maintenance    rolling up, then deleting what is old
    proof          sealing the ledger and proving it
    channels       trying channels that are not well
    registry       every job by its name
    runner         one run: claimed, kept, written down
    scheduler      runs that are due

What each process does for itself, its heartbeat and the sweep of dead processes' holds, is
`flows/maintenance.py`: it must go on in every process and whatever a job does.
"""
