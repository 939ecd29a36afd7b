"""``ltau compile``."""

from ltau_cli.cli import options
from ltau_cli.cli.console import Console


@options.command("compile")
def command(console: Console) -> None:
    """Compile the inner loops ahead of the first run.

    Else the first ltau fit or score does it. Run this when a container image is built, or in the
    prologue of a job whose nodes have another processor than the machine before; NUMBA_CACHE_DIR
    names the folder that keeps what was compiled.

    \b
    Example:
      NUMBA_CACHE_DIR=/opt/ltau-cache ltau compile
    """
    from ltau_cli.stages import compile

    result = compile.run()
    done = "were already compiled, checked" if result.were_there else "compiled"
    line = f"inner loops {done} in {result.seconds:.1f} s, kept in {result.folder}"
    console.result(result, [line])
