package com.aimatrix.engine.host;

/** A delivered event at work at one of its targets. */
final class Target extends Run {
    final Delivery delivery;
    final int index;

    Target(Delivery delivery, int index, Activation activation) {
        super(delivery.host, delivery.id, activation, delivery.message);
        this.delivery = delivery;
        this.index = index;
        this.spec = delivery.handler;
    }

    @Override
    public int attempt() {
        return 1;
    }

    @Override
    public boolean streaming() {
        return false;
    }
}
