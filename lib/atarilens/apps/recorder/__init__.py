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
"""

from atarilens.apps.recorder.callbacks import PolicyNetwork, sb3_callback, training_callback
from atarilens.apps.recorder.episode import gif
from atarilens.apps.recorder.loop import AgentRecorder

__all__ = ["AgentRecorder", "PolicyNetwork", "gif", "sb3_callback", "training_callback"]
