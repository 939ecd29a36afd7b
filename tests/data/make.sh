#!/bin/sh
# Make the kept artifacts with the ltau of today: sh tests/data/make.sh
set -e
export SOURCE_DATE_EPOCH=1700000000
repository=$(cd "$(dirname "$0")/../.." && pwd)
PATH=$repository/.venv/bin:$PATH
work=$(mktemp -d)
cp "$repository"/tests/data/*.npz "$repository/docs/own_model.py" "$work"
cd "$work"

ltau ingest -q train.npz:errors --units eV/Å --natoms train.npz:natoms \
    --group train.npz:species -o errors-1.h5
ltau fit -q errors-1.h5 train.npz:descriptors -k 5 --scale whiten --loo structure --bins 20 \
    --weighting inverse-distance -o model-1.h5
more="--group test.npz:species --feature spread=test.npz:errors --cdf"
ltau score -q test.npz:descriptors -m model-1.h5 $more -o scores.h5
ltau calibrate -q scores.h5 test.npz:errors --group species --distance-bins 2 --method distance \
    -o calibration-1.h5
ltau score -q test.npz:descriptors -m model-1.h5 $more --calibration calibration-1.h5 \
    -o scores-1.h5

python - "$repository/sample_data/train.xyz" <<'END'
import sys
import ase.io

frames = [ase.io.read(sys.argv[1], number)[:8] for number in (0, 12, 24)]
for frame in frames:
    frame.info["config_type"] = "cluster"
ase.io.write("three.xyz", frames, format="extxyz")
END
ltau describe -q three.xyz --network python:own_model.py:describe -o described-1.h5

cp ./*-1.h5 "$repository/tests/data"
rm -r "$work"
