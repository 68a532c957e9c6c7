"""Machine profiles as YAML; `npusim.profiles` finds and reads them."""
