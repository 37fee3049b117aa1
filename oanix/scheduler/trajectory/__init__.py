"""Trajectory: what each job did, as it was seen at the doors (ATIF v1.4).

`watching` sees the operations of a job's namespace, one record for an open file and not one for a
read; `Recorder` groups them into steps and appends these to the record of the run;
`Trajectories` has the recorders of one server, and `Steps` is where a job adds steps of its own.
"""

from oanix.scheduler.trajectory.recorder import Recorder
from oanix.scheduler.trajectory.steps_file import Steps
from oanix.scheduler.trajectory.trajectories import Trajectories

__all__ = ["Recorder", "Steps", "Trajectories"]
