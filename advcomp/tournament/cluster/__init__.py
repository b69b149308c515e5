"""Past one machine: nodes of a Dask cluster do the jobs of a run."""
