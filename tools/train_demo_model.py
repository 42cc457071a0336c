"""Trains the bundled demo model from scratch: a small LLaVA that answers questions about drawings.

    python tools/train_demo_model.py --out src/aphrodite/demo_model

Every random choice follows from fixed seeds. First the vision tower learns alone, from dense targets (scene_labels.py):
a decoder would only learn to guess as long as nothing is seen. Then all parts learn together, with next-token
cross-entropy over the answers added, with a cool-down of the learning rate and one warm restart (arXiv 1608.03983). The
weights written are an exponential moving average, rounded to bfloat16.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import distributed
from torch.multiprocessing.spawn import start_processes
from torch.utils.data import DataLoader
from transformers import LlavaProcessor

from demo_format import build_processor
from training_rows import Batch, Rows, collate
from training_run import Run

SEED = 0
BATCH_SIZE = 32
NUM_STEPS = 7000  # to the end of the first cool-down
NUM_STEPS_OF_RESTART = 800
NUM_STEPS_BETWEEN_REPORTS = 50
NUM_STEPS_BETWEEN_CHECKPOINTS = 200


def batches(processor: LlavaProcessor, steps: range, process: int, num_processes: int) -> Iterator[Batch]:
    """This process's share of every step's batch, drawn by a helper process while the model trains."""
    share = BATCH_SIZE // num_processes
    numbers = [number for number in range(steps.start * BATCH_SIZE, steps.stop * BATCH_SIZE)
               if number % BATCH_SIZE // share == process]  # fmt: skip
    loader: DataLoader[Batch] = DataLoader(
        Rows(processor, numbers),  # type: ignore[arg-type]
        batch_size=share,
        num_workers=1,
        collate_fn=collate,
        prefetch_factor=8,
    )
    return iter(loader)


def train(process: int, num_processes: int, meeting: str, args: argparse.Namespace) -> None:
    """Be one of the processes that train together, having met at the URL `meeting`; the first writes the model."""
    if num_processes > 1:
        torch.set_num_threads(1)
        distributed.init_process_group("gloo", init_method=meeting, rank=process, world_size=num_processes)
    torch.manual_seed(SEED)
    processor = build_processor()
    run = Run(processor, args.device)
    if args.state is not None and args.state.exists():
        run.resume(args.state)
    is_writer = process == 0
    if is_writer:
        processor.save_pretrained(args.out)
    started = time.monotonic()
    num_steps = args.steps + NUM_STEPS_OF_RESTART
    for batch in batches(processor, range(run.step, num_steps), process, num_processes):
        answer_loss, scene_loss = run.advance(batch.to(args.device), args.steps if run.step < args.steps else num_steps)
        if is_writer and run.step % NUM_STEPS_BETWEEN_REPORTS == 0:
            minutes = (time.monotonic() - started) / 60
            print(
                f"{minutes:6.2f} min  step {run.step:5}  answers {answer_loss:.4f}  scene {scene_loss:.4f}", flush=True
            )
        if is_writer and args.state is not None and run.step % NUM_STEPS_BETWEEN_CHECKPOINTS == 0:
            run.keep(args.state)
            run.save(args.out)
    if is_writer:
        run.save(args.out)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("src/aphrodite/demo_model"), help="the folder to write")
    parser.add_argument("--steps", type=int, default=NUM_STEPS, help="steps before the restart (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="on a CPU, of a thread each (default %(default)s)")
    parser.add_argument("--state", type=Path, help="a file to keep the run's state in, and to resume from")
    args = parser.parse_args()
    if args.device != "cpu" or args.processes == 1:
        train(0, 1, "", args)
    else:
        with tempfile.TemporaryDirectory() as folder:
            meeting = f"file://{folder}/meeting"
            start_processes(  # type: ignore[no-untyped-call]
                train, (args.processes, meeting, args), nprocs=args.processes, start_method="fork"
            )


if __name__ == "__main__":
    main()
