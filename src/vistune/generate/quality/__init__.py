"""How good the accepted samples are as a set: variety, lengths, objects told, cost; all in bounded memory."""
