"""Training data from videos: questions, clips and frames as VidThinker finds them.

Source: VideoITG (arXiv 2507.13353), and the scripts beside its data set VideoITG-40K.
"""
