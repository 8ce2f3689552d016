"""Record episodes of a training run for TensorBoard, from any training loop.

Every n-th episode becomes a run of its own, so that TensorBoard's list of runs is the list of
recorded episodes and its check boxes choose which are shown:

    <logdir>/episodes/                 return and length of every episode
    <logdir>/episodes/000050-running   an episode that is being played
    <logdir>/episodes/000000           a finished one, renamed
    <logdir>/episodes/000100-interrupted, 000150-excerpt     cut off; the beginning of a game

A recorded episode holds the images `game` (the screens, lossless) and `saliency` (both heads' on
the screens, with the action, return and value of each), the scalars `reward` and `value` by step,
the actions as a histogram and by name, the last hidden layer with thumbnails for the projector,
and `metadata.json`. While it runs, the movies so far are written at steps 64, 128, 256, ...
"""

from atarilens.apps.recorder.callbacks import PolicyNetwork, sb3_callback, training_callback
from atarilens.apps.recorder.episode import gif
from atarilens.apps.recorder.loop import AgentRecorder

__all__ = ["AgentRecorder", "PolicyNetwork", "gif", "sb3_callback", "training_callback"]
