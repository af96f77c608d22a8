from hypothesis import settings

# how long one example takes says more about the other processes of the machine than about a decoder
settings.register_profile("decode", deadline=None)
settings.load_profile("decode")
