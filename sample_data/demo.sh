#!/bin/sh
# The whole pipeline on the sample data. Every line that is shown can be copied to a prompt.
set -eu
cd "$(dirname "$0")/.."
rm -rf demo
mkdir demo

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

data=sample_data
run ltau ingest $data/logs -o demo/errors.h5 --units eV/Å
run ltau fit demo/errors.h5 $data/train_descriptors.npy -o demo/model.h5
run ltau score $data/test_300K_descriptors.npy -m demo/model.h5 \
    --natoms $data/test_300K_natoms.npy --group $data/test_300K_species.npy \
    -o demo/uncalibrated.h5
run ltau calibrate demo/uncalibrated.h5 $data/test_300K_force_errors.npy -o demo/calibration.h5
for t in 300K 900K; do
    run ltau score $data/test_${t}_descriptors.npy -m demo/model.h5 \
        --natoms $data/test_${t}_natoms.npy --group $data/test_${t}_species.npy \
        --calibration demo/calibration.h5 \
        -o demo/scores_$t.h5
done
run ltau export demo/scores_900K.h5 -o demo/scores_900K.csv
run ltau select demo/scores_900K.h5 -n 5 --descriptors $data/test_900K_descriptors.npy \
    -o demo/chosen.txt
run ltau weights demo/model.h5 --emphasis easy -o demo/weights.npy
run ltau plot reliability demo/calibration.h5 -o demo/reliability.png
run ltau plot parity demo/calibration.h5 -o demo/parity.png
run ltau plot cdf demo/model.h5 -o demo/cdf.png
run ltau plot map demo/errors.h5 -o demo/map.png
run ltau plot ood demo/model.h5 demo/scores_300K.h5 demo/scores_900K.h5 -o demo/ood.png
run ltau plot overview demo/errors.h5 demo/model.h5 demo/calibration.h5 demo/scores_300K.h5 \
    demo/scores_900K.h5 -o demo/overview.pdf
run ltau evaluate demo/scores_300K.h5 $data/test_300K_force_errors.npy \
    demo/scores_900K.h5 $data/test_900K_force_errors.npy
