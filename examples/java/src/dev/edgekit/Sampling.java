package dev.edgekit;

/** How to choose tokens. ek_sampling in edgekit.h describes the fields. */
public final class Sampling {
  public static final Sampling GREEDY = new Sampling(0, 1, 0, 1, 0);

  final float temperature;
  final float topP;
  final float minP;
  final float repetitionPenalty;
  final int topK;

  public Sampling(float temperature, float topP, float minP, float repetitionPenalty, int topK) {
    this.temperature = temperature;
    this.topP = topP;
    this.minP = minP;
    this.repetitionPenalty = repetitionPenalty;
    this.topK = topK;
  }

  float[] numbers() {
    return new float[] {temperature, topP, minP, repetitionPenalty};
  }
}
