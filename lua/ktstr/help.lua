-- What `ktstr help` prints.
local help = {}

help.general = [[
usage: ktstr COMMAND ...

  script FILE [ARGS]     run a Lua script that boots machines and judges them
  test [PATHS] [OPTIONS] run busted specs, spec/ by default
  repl [FILE]            boot a machine and open a Lua prompt in front of it
  kernel ...             get, list and remove the kernels that machines boot
  warm ...               list, check and remove saved machines
  doctor                 say what this host can do, and what to do about the rest
  version                print the version
  help [COMMAND]         print this, or a command's own help

Each command prints its help with --help. Scripts: require "ktstr" (docs/guide.md).
]]

help.commands = {
  script = [[
usage: ktstr script [--repl-on-failure] [--cold] FILE [ARGS]      (FILE may be -: standard input)

Runs a Lua script. ARGS are what it sees as ... and as arg[1], arg[2]. Tests that it declares with
ktstr.test run when the file has been read; modules beside FILE can be required.

  --repl-on-failure  where an expectation fails or an error is raised, freeze the machine and open a
                     prompt with `vm` and `t` (docs/repl.md); Ctrl-D goes on. Needs a terminal
  --cold             boot each machine afresh, instead of going on from a saved one (docs/warm.md)

exit status
  0  all passed, or the script came to its end
  1  a test failed, or the script raised an error
  2  it could not run: usage, bad options, missing kernel, no usable KVM
  3  a test was inconclusive, and none failed
  n  after os.exit(n); 130 and 143 after SIGINT and SIGTERM

environment
  KTSTR_KERNEL  the kernel where a script names none: a version, an image or a build tree
  KTSTR_VMLINUX its vmlinux with DWARF, for source lines, where it is not found
  KTSTR_WARM    0: the same as --cold
  KTSTR_LOG     not empty: say on stderr how the boot CPU's loop ended
  KTSTR_RUN_DIR a directory, made if need be: the last captures of a guest that died go there as JSON
]],
  test = [[
usage: ktstr test [--repl-on-failure] [--cold] [PATHS] [OPTIONS]

Runs busted inside ktstr on PATHS (files, or directories of *_spec.lua; spec/ by default). Specs use
ktstr.boot in their own tests, or declare tests with ktstr.test, which become tests of busted's.
An inconclusive test is reported as pending, with its reason. --repl-on-failure, --cold: as of ktstr script.

exit status, whatever the number of failures
  0  all passed     1  something failed     3  inconclusive, and none failed
  2  it could not run: usage, no test found, a file that cannot be read, missing kernel, no usable KVM

busted's options, among them -o TAP and -o junit -Xoutput FILE:
]],
  repl = [[
usage: ktstr repl [OPTIONS] [FILE] [ARGS]

Boots a machine, runs FILE if there is one (it finds the machine in `vm`), and opens a Lua prompt.
Ctrl-D ends the session and the machine; `help` at the prompt says what it understands (docs/repl.md).

  --kernel K     as in ktstr.boot: a version, an image or a build tree
  --vmlinux V    the kernel's vmlinux with DWARF, for source lines, where it is not found
  --topology T   "1n1l2c1t" unless given
  --memory M     "768M"
  --cmdline C    appended to the kernel's command line
  --cold         boot afresh, instead of going on from a saved machine (docs/warm.md)
  --timeout S    seconds of wall time before the machine is killed; no limit unless given

Where standard input is no terminal, its lines are evaluated without prompts and line editing.

exit status
  0  the session came to its end
  1  standard input is no terminal, and a line (or FILE) failed; or the guest failed to boot
  2  it could not run: usage, bad options, missing kernel, no usable KVM
  130 and 143 after SIGINT (while it boots; from a pipe, always) and SIGTERM
]],
  doctor = [[
usage: ktstr doctor [--quiet | --json]

Says what this host can do, from a functional probe that runs tiny guests, and what to do about each
lack. Exit status 0 when a stock kernel can run here, else 1.

  --quiet  print nothing
  --json   print the findings as JSON
]],
  version = "usage: ktstr version\n\nPrints the version.\n",
  help = "usage: ktstr help [COMMAND]\n\nPrints the commands, or the help of one.\n",
}

return help
