"""Results kept on disk while their broker is away, and sent when it is back.

    segment   bytes: the head of a file, records with CRC and marker, search for the next whole one    pure
    runs      which sequence numbers are done                                                         pure
    log       the records of one broker: segments, what waits to be written, where replay stands      pure
    store     all logs under one byte cap; what the disk is to do next, as a job                      pure
    disk      carries a job out: write, sync, read, delete                                            blocks
    spool     timers, the one-shot thread, receipts and accounts; `Backlog` is what a link sees       the loop

One append-only log for each broker, so that a broker that stays away holds up nobody else's space. There is no second
file that must agree with it: the file `done` only saves duplicates after a restart.

Why no library. Measured on ext4 with results of 300 bytes: SQLite (WAL, synchronous=FULL) writes 3.7 times the payload at
100 results a commit, and 35 times at two, before it deletes a row; this log 1.9 and 9. SQLite notices a flipped bit only
where it breaks its tree, and then stops there, where a log skips one record. persist-queue, the best kept of the queue
packages, is unreadable after a power cut (its issue 180).

What a commit adds on ext4: 24 KiB of journal where it makes the file larger, 16 KiB in space that posix_fallocate reserved,
one page where it writes over zeros. So for commits of less than 20 KiB a file grows by 64 KiB of zeros at a time (without
it, two results a commit cost 30 times the payload); larger ones carry the journal themselves.
"""
