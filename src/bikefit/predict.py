r"""Predict the rentals of hours from their weather, or the target of your own table.

python -m bikefit.predict --input rows.csv --output answers.csv
python -m bikefit.predict --at 2012-10-05T17:00 --temp 21 --humidity 60 --windspeed 12 \
    --weather clear
python -m bikefit.predict --model models:/bikefit-diabetes@champion --row age=0.04 bmi=0.06 …
"""

import gc
import sys

import bikefit

if __name__ == "__main__":
    gc.disable()  # garbage collection would take a fifth of the import time
    from bikefit.final.predict import main

    status = main()
    gc.freeze()
    sys.exit(status)
else:  # an import of this module must not replace the function of the same name in the package
    sys.modules[__name__] = bikefit.predict  # type: ignore[assignment]
