"""The AWS CLI as one process that forks for each call of aws_client.py.

Usage: aws_server.py SOCKET. The scripts call `aws` hundreds of times in their tests,
and most of what a call takes is Python importing it. Here that is done once; what
then runs is what the command runs, with the arguments, the environment, the
directory and the files it was called with.
"""

import json
import os
import signal
import socket
import sys
import traceback


def run(connection):
    """Returns the exit code of the command."""
    size, files, _, _ = socket.recv_fds(connection, 4, 3)
    call = json.loads(connection.makefile("rb").read(int.from_bytes(size, "big")))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    # Where its data is, it has set as it was imported.
    call["environment"]["AWS_DATA_PATH"] = os.environ["AWS_DATA_PATH"]
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["directory"])
    sys.argv = ["aws", *call["arguments"]]
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return clidriver.main()


def answer(connection):
    code = 255
    try:
        code = run(connection)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        connection.sendall(bytes([code & 255]))
        os._exit(0)


with socket.socket(socket.AF_UNIX) as listener:
    # Under its name when it can be called; what calls before the import waits.
    listener.bind(sys.argv[1] + ".new")
    listener.listen(64)
    os.rename(sys.argv[1] + ".new", sys.argv[1])

    from awscli import clidriver

    # Imports what the first call would.
    clidriver.create_clidriver()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            answer(connection)
        connection.close()
