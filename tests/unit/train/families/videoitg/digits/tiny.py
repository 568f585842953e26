"""The recipe at a size where it learns nothing."""

from train.families.videoitg.digits.recipe import Phase, Recipe
from train.families.videoitg.digits.vision import VisionTraining

TINY = Recipe(
    seed=3,
    vision=VisionTraining(seed=3, num_steps=2, batch_size=4),
    num_texts=64,
    num_images=256,
    num_videos=6,
    video_epochs=1,
    video_frames=8,
    phases=(
        Phase(num_frames=8, num_videos=2, learning_rate=1e-3),
        Phase(num_frames=16, num_videos=2, learning_rate=1e-3, num_more_order=1),
    ),
)
