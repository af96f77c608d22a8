"""Behaviours: coroutines of the user's own, on the loop of the daemon: perceive, decide, act, wait.

face     what a behaviour sees: typed, and the only part that its file needs to import
code     the user's file: what of it a behaviour uses, and where in it something went wrong
steps    a coroutine driven step by step, each step a stage of the loop
inbox    results and samples that wait for one instance
asking   a pipeline as a function
me       what is behind the face, for one instance
actor    one `[behaviour.NAME]`: its instances by key, their failures and their ends
kept     what outlives a restart
"""
