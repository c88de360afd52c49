package com.aimatrix.engine.spring.shop;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import com.aimatrix.engine.ProcessingResult;
import com.aimatrix.engine.Scheduled;
import com.aimatrix.engine.spring.shop.Shop.ContextualData;
import com.aimatrix.engine.spring.shop.Shop.Product;
import com.aimatrix.engine.spring.shop.Shop.RecommendationRequest;
import com.aimatrix.engine.spring.shop.Shop.User;
import com.aimatrix.engine.spring.shop.Shop.UserInteractionEvent;
import com.aimatrix.engine.spring.shop.Shop.UserProfile;
import java.time.Duration;
import java.time.LocalDateTime;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.cache.CacheManager;
import org.springframework.cache.annotation.Cacheable;
import org.springframework.stereotype.Component;
import org.springframework.transaction.annotation.Transactional;

/** Recommends products to the users of a shop, from what they looked at and bought. */
@Agent(name = "RecommendationAgent", version = "1.5.0")
@Component
public class RecommendationAgent {
    private static final Logger LOG = LoggerFactory.getLogger(RecommendationAgent.class);
    private static final Duration STALE = Duration.ofDays(30);
    private static final Map<String, Double> WEIGHTS =
            Map.of("view", 0.1, "cart_add", 0.3, "like", 0.5, "purchase", 1.0);

    @Autowired private Shop.UserService userService;
    @Autowired private Shop.ProductService productService;
    @Autowired private Shop.MLModelService mlModelService;
    @Autowired private Shop.Analytics analytics;
    @Autowired private CacheManager cacheManager;

    @Memory(persistent = true, ttl = "7d")
    private final Map<String, UserProfile> userProfiles = new ConcurrentHashMap<>();

    @Memory(persistent = true, ttl = "6h")
    private final Map<String, List<Product>> productRecommendations = new ConcurrentHashMap<>();

    /**
     * What a user may like, best first.
     *
     * @param request for whom, and where they are shown
     * @return the products, how many, and when, where and for whom they were found
     */
    @Handler
    public CompletableFuture<ProcessingResult> generateRecommendations(RecommendationRequest request) {
        return CompletableFuture.supplyAsync(
                () -> {
                    try {
                        return recommended(request);
                    } catch (RuntimeException error) {
                        LOG.error("no recommendations for user {}", request.userId(), error);
                        return ProcessingResult.error("Failed to generate recommendations: " + error.getMessage());
                    }
                });
    }

    private ProcessingResult recommended(RecommendationRequest request) {
        String userId = request.userId();
        UserProfile profile = profile(userId);
        ContextualData context =
                new ContextualData(userId, request.context(), userService.getCurrentCart(userId), request.filters());
        List<Product> products =
                mlModelService.generateRecommendations(profile, context, 50).stream()
                        .filter(product -> product.active() && product.inventoryCount() > 0)
                        .filter(product -> product.minimumAge() <= profile.getAge())
                        .filter(product -> product.soldIn(profile.getRegion()))
                        .filter(product -> !profile.getPurchases().contains(product.id()))
                        .limit(context.limit())
                        .toList();
        productRecommendations.put(userId + "/" + request.context(), products);
        analytics.recommended(userId, request.context(), products.size());
        return ProcessingResult.success(
                Map.of(
                        "recommendations", products,
                        "totalCount", products.size(),
                        "generatedAt", LocalDateTime.now(),
                        "context", request.context(),
                        "userId", userId));
    }

    /**
     * Learns from what a user did.
     *
     * @param event what
     * @return that it is recorded
     */
    @Handler
    public CompletableFuture<ProcessingResult> recordUserInteraction(UserInteractionEvent event) {
        return CompletableFuture.runAsync(
                        () -> {
                            Double weight = WEIGHTS.get(event.interactionType());
                            if (weight == null) {
                                throw new IllegalArgumentException("no such interaction: " + event.interactionType());
                            }
                            UserProfile profile = profile(event.userId());
                            profile.interested(event.productCategory(), weight);
                            switch (event.interactionType()) {
                                case "view" -> profile.getViews().merge(event.productId(), 1, Integer::sum);
                                case "purchase" -> profile.getPurchases().add(event.productId());
                                default -> {}
                            }
                            profile.setLastUpdated(LocalDateTime.now());
                            userProfiles.put(event.userId(), profile);
                            if (weight >= 1.0) {
                                forget(event.userId());
                            }
                        })
                .thenApply(done -> ProcessingResult.success("Interaction recorded successfully"));
    }

    /**
     * Products that are like another one.
     *
     * @param productId the other one
     * @param limit how many at most
     * @return the products, nearest first, and how many
     */
    @Handler
    @Cacheable(value = "similarProducts", key = "#productId")
    public CompletableFuture<ProcessingResult> findSimilarProducts(String productId, int limit) {
        return CompletableFuture.supplyAsync(
                () -> {
                    Product target = productService.findById(productId);
                    if (target == null) {
                        return ProcessingResult.error("Product not found: " + productId);
                    }
                    double[] wanted = mlModelService.getProductEmbedding(target);
                    Comparator<Product> nearest =
                            Comparator.comparingDouble(one -> -cosine(wanted, mlModelService.getProductEmbedding(one)));
                    List<Product> similar =
                            productService.getAllActiveProducts().stream()
                                    .filter(one -> !one.id().equals(productId))
                                    .sorted(nearest)
                                    .limit(limit)
                                    .toList();
                    return ProcessingResult.success(
                            Map.of("productId", productId, "similarProducts", similar, "count", similar.size()));
                });
    }

    /** Makes the profiles of those who were here lately anew. */
    @Scheduled(fixedDelay = "4h")
    @Transactional
    public void rebuildUserProfiles() {
        List<String> active = userService.getActiveUserIds(STALE);
        CompletableFuture<?>[] rebuilt =
                active.stream()
                        .map(
                                userId ->
                                        CompletableFuture.runAsync(
                                                () -> {
                                                    userProfiles.put(userId, fresh(userId));
                                                    forget(userId);
                                                }))
                        .toArray(CompletableFuture<?>[]::new);
        CompletableFuture.allOf(rebuilt).join();
        LOG.info("rebuilt the profiles of {} users", active.size());
    }

    /** Forgets what nobody needs any more. */
    @Scheduled(cron = "0 0 2 * * *")
    public void cleanupExpiredData() {
        LocalDateTime cutoff = LocalDateTime.now().minus(STALE);
        userProfiles.entrySet().removeIf(entry -> entry.getValue().getLastUpdated().isBefore(cutoff));
        productRecommendations.entrySet().removeIf(entry -> entry.getValue().isEmpty());
        Objects.requireNonNull(cacheManager.getCache("similarProducts")).clear();
        Objects.requireNonNull(cacheManager.getCache("userPreferences")).clear();
    }

    private UserProfile profile(String userId) {
        return userProfiles.computeIfAbsent(userId, this::fresh);
    }

    private UserProfile fresh(String userId) {
        try {
            User user = userService.findById(userId);
            return mlModelService.buildUserProfile(
                    user,
                    userService.getRecentInteractions(userId, Duration.ofDays(90)),
                    userService.getOrderHistory(userId, 50));
        } catch (RuntimeException error) {
            LOG.warn("user {} gets a default profile: {}", userId, error.getMessage());
            return UserProfile.defaultProfile(userId);
        }
    }

    private void forget(String userId) {
        productRecommendations.keySet().removeIf(key -> key.startsWith(userId + "/"));
    }

    private static double cosine(double[] one, double[] other) {
        double product = 0;
        double norms = 0;
        double others = 0;
        for (int index = 0; index < one.length; index++) {
            product += one[index] * other[index];
            norms += one[index] * one[index];
            others += other[index] * other[index];
        }
        return product / Math.sqrt(norms * others);
    }
}
