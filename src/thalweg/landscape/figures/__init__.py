"""Static figures of results, fit for print; they need the extra ``figures`` (matplotlib)."""
