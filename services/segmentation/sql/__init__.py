"""The second compiler: a rule becomes one query of the warehouse. Pure.

Every value of a rule is a bound parameter ({p3:String}); names of traits and properties, which ClickHouse
takes as column names only, are quoted by `terms.path`.
"""
