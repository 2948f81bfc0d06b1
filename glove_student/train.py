#!/usr/bin/env python3
"""Train a transformer, or a network on word vectors, with a validation after every epoch.

    python train.py --config=configs/config-glove-cnn.json --data_dir=data/sst2 --lr=1e-3 --use_transformers_optimizer \
      --warmup_epoch=0 --weight_decay=0.0 --save_path=pytorch-model-cnn.pt --augmented

Run in this folder; started again with the same flags, it continues. Loop: `fine_tune/train/epochs.py`. Page:
`doc/methods/glove.md`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fine_tune.flags.parser import Parser, usage_errors
from fine_tune.glove.config import is_glove, read_config
from fine_tune.glove.flags import EncoderConfig, OutputConfig, RowsConfig, TrainConfig


def build_parser() -> Parser:
    """Name the groups of flags that this script takes."""
    return Parser(__doc__, (RowsConfig, TrainConfig, EncoderConfig, OutputConfig))


def main(argv: Sequence[str] | None = None) -> None:
    """Read the rows, build the model, train it; have the documented names point to the best."""
    parser = build_parser()
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)
        cfg, rows = flags[TrainConfig], flags[RowsConfig]
        config = read_config(Path(rows.config))

        # Heavy imports come after the flags are read: `--help` answers at once.
        from fine_tune.glove.artefacts import check_link
        from fine_tune.glove.material import encoder_material, export_encoder, name_of_run, word_material
        from fine_tune.glove.start import check_processes, device_of, home_of, publish, start
        from fine_tune.losses import hard_target_loss, logit_mse_loss
        from fine_tune.run.folder import is_complete
        from fine_tune.run.process import set_up_process
        from fine_tune.train.epochs import train_epochs

        device, save_path = device_of(cfg.device), Path(cfg.save_path)
        output = Path(flags[OutputConfig].bert_output_dir)
        set_up_process(cfg.seed, device)
        check_processes(cfg)
        links = (save_path,) if is_glove(config) else (save_path, output / config["emb_class"])
        for link in links:
            check_link(link)
        material = (word_material if is_glove(config) else encoder_material)(flags, config)
        parent = save_path.with_suffix(".runs") if is_glove(config) else output
        home = home_of(flags, material, parent, name_of_run(flags, config))
        complete = is_complete(home.folder) and not home.overwrite
        if complete:
            print(f"already trained: {home.folder}")
        else:
            session, epochs = start(flags, material, home, device)

    if not complete:
        with session:
            train_epochs(session, session.models[""], epochs, logit_mse_loss if material.soft else hard_target_loss)
    with usage_errors(parser):
        best = publish(home, *links)
        if not is_glove(config):
            export_encoder(best, material, home.folder.parent)


if __name__ == "__main__":
    main()
