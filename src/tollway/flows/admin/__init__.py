"""Administration: every operation on keys, channels, models, credits and people, one module per noun.

The command line, the control socket and the admin API perform the same operations through
`operations.perform`; what they return is plain structs whose JSON form is the API's.
"""
