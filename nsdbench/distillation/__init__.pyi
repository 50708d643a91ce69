from .loop import distill as distill
