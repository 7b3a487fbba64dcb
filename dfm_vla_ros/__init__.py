"""DFM-VLA on a two-armed ROS 2 robot: discrete flow matching over action tokens."""

from pkgutil import extend_path

# The generated interfaces (dfm_vla_ros.msg, .srv, .action) may live in another folder of the same
# name (the install space) while the sources are imported from here.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
