"""One run() per stage: read, compute, write.

What can go wrong is an ``LtauError`` of the room that it goes wrong in.
"""
