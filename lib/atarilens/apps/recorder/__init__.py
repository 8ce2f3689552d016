"""Record episodes of a training run for TensorBoard, from any training loop.

Every n-th episode becomes a run of its own. TensorBoard's list of runs is then the list of recorded
episodes, and its check boxes choose which ones it shows:

    <logdir>/episodes/                 return and length of every episode
    <logdir>/episodes/000050-running   an episode that is being played
    <logdir>/episodes/000000           a finished one, renamed
    <logdir>/episodes/000100-interrupted, 000150-excerpt     cut off by a stop; cut off on purpose

A recorded episode holds the images `game` (the screens, lossless) and `saliency` (the screens with
both heads' maps, and the action, return and value of each step), the scalars `reward` and `value`
by step, the actions as a histogram and as a table, the last hidden layer with thumbnails for the
projector, and `metadata.json`. While it runs, the movies so far are written at steps 64, 128, ...
On request it also holds the last convolution's channels and the memory, and a user's own pictures.

TensorBoard samples ten images of a tag; the command that `tensorboard_command` returns shows all.
"""

from atarilens.apps.recorder.callbacks import PolicyNetwork, sb3_callback, training_callback
from atarilens.apps.recorder.loop import AgentRecorder, tensorboard_command

__all__ = [
    "AgentRecorder",
    "PolicyNetwork",
    "sb3_callback",
    "tensorboard_command",
    "training_callback",
]
