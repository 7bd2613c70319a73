from mlcl.api.comparing import Comparison as Comparison
from mlcl.api.comparing import compare as compare
from mlcl.api.datasets import prepare as prepare
from mlcl.api.fitting import Result as Result
from mlcl.api.fitting import fit as fit
from mlcl.data import open_dataset as open_dataset
from mlcl.model import load_model as load_model
from mlcl.reporting.results import load_results as load_results

__version__: str
__all__: list[str]
