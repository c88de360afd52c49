"""Several engines behind one address: who owns which instance, how engines trust and reach each other."""
