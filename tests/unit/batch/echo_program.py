"""A program that says what it was given, and then all that it hears."""

import os
import sys
import time

from groundserve.batch.program import open_connection

connection, arguments = open_connection(sys.argv)
connection.send((arguments, os.environ["A_VARIABLE"], os.getpid()))
while True:
    try:
        message = connection.recv()
    except EOFError:
        break
    connection.send(message)
    if message == "stay":
        time.sleep(60)
