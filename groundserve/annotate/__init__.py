"""Training data, as VidThinker makes it.

Source: VideoITG (arXiv 2507.13353), and the scripts beside its data set VideoITG-40K.
"""
