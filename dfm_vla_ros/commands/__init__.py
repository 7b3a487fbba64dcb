"""One subcommand of ``dfm-vla`` a file; each defines ``add_parser(subparsers)``."""
