"""Rank the configurations of a sweep: `python -m bikefit.compare [sweep]`."""

import sys

import bikefit

if __name__ == "__main__":
    from bikefit.comparison.compare import main

    sys.exit(main())
else:  # an import of this module must not replace the function of the same name in the package
    sys.modules[__name__] = bikefit.compare  # type: ignore[assignment]
