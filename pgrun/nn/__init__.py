"""Networks: factories of encoders, heads that return distributions, normalisers that are layers."""

from pgrun.nn.critics import q_functions as q_functions
from pgrun.nn.encoders import CNN as CNN
from pgrun.nn.encoders import MLP as MLP
from pgrun.nn.encoders import Network as Network
from pgrun.nn.encoders import Recurrent as Recurrent
from pgrun.nn.models import Actor as Actor
from pgrun.nn.models import ActorCritic as ActorCritic
from pgrun.nn.models import Twin as Twin
