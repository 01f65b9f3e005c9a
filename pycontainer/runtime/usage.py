"""What `--help` prints: apart, because nobody else needs it."""

from __future__ import annotations

USAGE = """\
usage: pycontainer-runtime [--root DIR] COMMAND …

  spec [-b BUNDLE] [--rootless]                                            write a config.json to begin with
  run [-b BUNDLE] [--explain] [--pid-file F] [--console-socket S] [-d] ID   create, start, wait, delete
  run --keep … ID                                                          the same; it is there until `delete`
  create [-b BUNDLE] [--explain] [--pid-file F] [--console-socket S] ID     make a container that waits for start
  start ID                                                                 let it execute its program
  state ID                                                                 print its state as JSON
  exec [-t] [-d] [-e NAME=VALUE] [--cwd DIR] [-u UID[:GID]] … ID COMMAND…  execute one more program in it
  exec -p FILE [-d] … ID                                                   the same; FILE says it as config.json does
  kill [-a] ID [SIGNAL]                                                    send a signal (default SIGTERM)
  delete [-f] ID                                                           remove it
  update [--memory BYTES] [--cpu-quota N] [--pids-limit N] … ID            change its limits while it runs
  update -r FILE ID                                                        the same; FILE says it as config.json does
  list [-q] [-f table|json]                                                print all containers
  features                                                                 print what is implemented, as JSON

  --rootless            for who is not root: with the caller's ids, and the host's network
  -b, --bundle DIR      directory with config.json and the root file system (default: the current one)
  --root DIR            where state is kept (default /run/pycontainer/runtime)
  --log FILE            append errors and warnings to this file too
  --log-format FORMAT   how: text (the default) or json
  --debug               with what raised them
  --explain             print each step on stderr, with its reason and the shell command that would do it

A bundle is what the OCI runtime specification calls one; `spec` writes its config.json.
"""
