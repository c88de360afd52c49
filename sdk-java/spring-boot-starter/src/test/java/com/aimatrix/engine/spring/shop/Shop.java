package com.aimatrix.engine.spring.shop;

import java.time.Duration;
import java.time.Instant;
import java.time.LocalDateTime;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** What the shop is about, and the services that know of it. */
final class Shop {
    private Shop() {}

    record Product(
            String id,
            String name,
            String category,
            boolean active,
            int inventoryCount,
            int minimumAge,
            Set<String> regions) {
        boolean soldIn(String region) {
            return regions.isEmpty() || regions.contains(region);
        }
    }

    record User(String id, int age, String region) {}

    record Order(String productId, Instant at) {}

    record RecommendationRequest(String userId, String context, Map<String, Object> filters) {}

    record UserInteractionEvent(
            String userId, String interactionType, String productId, String productCategory, Instant timestamp) {}

    record ContextualData(String userId, String context, List<String> currentCart, Map<String, Object> filters) {
        int limit() {
            return filters != null && filters.get("limit") instanceof Number limit ? limit.intValue() : 20;
        }
    }

    /** A bean that its owner changes: what it was and what it became are told apart by the memory that holds it. */
    static final class UserProfile {
        private String userId = "";
        private int age = 18;
        private String region = "";
        private Map<String, Double> interests = new LinkedHashMap<>();
        private Map<String, Integer> views = new LinkedHashMap<>();
        private List<String> purchases = new ArrayList<>();
        private LocalDateTime lastUpdated = LocalDateTime.now();

        static UserProfile defaultProfile(String userId) {
            UserProfile profile = new UserProfile();
            profile.userId = userId;
            return profile;
        }

        void interested(String category, double more) {
            interests.merge(category, more, Double::sum);
        }

        public String getUserId() {
            return userId;
        }

        public void setUserId(String userId) {
            this.userId = userId;
        }

        public int getAge() {
            return age;
        }

        public void setAge(int age) {
            this.age = age;
        }

        public String getRegion() {
            return region;
        }

        public void setRegion(String region) {
            this.region = region;
        }

        public Map<String, Double> getInterests() {
            return interests;
        }

        public void setInterests(Map<String, Double> interests) {
            this.interests = interests;
        }

        public Map<String, Integer> getViews() {
            return views;
        }

        public void setViews(Map<String, Integer> views) {
            this.views = views;
        }

        public List<String> getPurchases() {
            return purchases;
        }

        public void setPurchases(List<String> purchases) {
            this.purchases = purchases;
        }

        public LocalDateTime getLastUpdated() {
            return lastUpdated;
        }

        public void setLastUpdated(LocalDateTime lastUpdated) {
            this.lastUpdated = lastUpdated;
        }
    }

    interface UserService {
        User findById(String userId);

        List<String> getActiveUserIds(Duration within);

        List<UserInteractionEvent> getRecentInteractions(String userId, Duration within);

        List<Order> getOrderHistory(String userId, int most);

        List<String> getCurrentCart(String userId);
    }

    interface ProductService {
        Product findById(String productId);

        List<Product> getAllActiveProducts();
    }

    interface MLModelService {
        double[] getProductEmbedding(Product product);

        UserProfile buildUserProfile(User user, List<UserInteractionEvent> recent, List<Order> orders);

        List<Product> generateRecommendations(UserProfile profile, ContextualData context, int most);
    }

    interface Analytics {
        void recommended(String userId, String context, int count);
    }
}
