from pycontainer.cli.main import main

main()
